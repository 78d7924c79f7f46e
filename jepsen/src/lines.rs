//! Log files as real programs write them, made up the same way every time: services, web servers, stack traces, JSON;
//! among them empty lines, lines that are not UTF-8, and lines that are far too long. For tests and benchmarks alike.

/// Words that occur in the lines, from rare to frequent.
pub const WORDS: [&str; 8] = [
    "panicked", "refused", "timeout", "deadbeef", "WARN", "latency", "GET", "info",
];

/// A small generator of numbers (splitmix64): the same sequence for the same start, on every machine.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, and is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next number, reduced to below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let count = u64::try_from(of.len()).expect("usize fits u64");
        of[usize::try_from(self.below(count)).expect("below a usize")]
    }

    /// Bytes that no compression makes smaller.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// What kind of program wrote a file.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A service with levels and key=value pairs, and now and then a stack trace.
    Service,
    /// A web server's access log.
    Web,
    /// One JSON object per line.
    Json,
    /// Whatever a broken device sends.
    Garbage,
}

/// So many lines of such a file, without line ends.
pub fn lines(source: Source, count: usize) -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(match source {
        Source::Service => 1,
        Source::Web => 2,
        Source::Json => 3,
        Source::Garbage => 4,
    });
    let line = match source {
        Source::Service => service,
        Source::Web => web,
        Source::Json => json,
        Source::Garbage => garbage,
    };
    (0..count)
        .map(|number| line(&mut numbers, number))
        .collect()
}

fn time(number: usize) -> String {
    let seconds = number % 60;
    let minutes = number / 60 % 60;
    let hours = number / 3_600 % 24;
    format!(
        "2026-11-02T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z",
        number % 1_000
    )
}

fn service(numbers: &mut Numbers, number: usize) -> Vec<u8> {
    let text = match numbers.below(40) {
        0 => String::new(),
        1 => "    at io.netty.channel.AbstractChannel.read(AbstractChannel.java:142)".to_owned(),
        2 => format!(
            "{} ERROR thread 'worker-{}' panicked at src/pool.rs",
            time(number),
            number % 7
        ),
        3..6 => {
            let upstream = numbers.below(12);
            let why = numbers.pick(&[
                "timeout after 5000 ms",
                "connection refused",
                "reset by peer",
            ]);
            format!(
                "{} WARN upstream=db-{upstream} {why}, retrying",
                time(number)
            )
        }
        _ => {
            let level = numbers.pick(&["info", "info", "INFO", "debug"]);
            let (trace, latency) = (numbers.next(), numbers.below(900));
            let what = numbers.pick(&[
                "order placed",
                "cache miss",
                "session für Zoë",
                "設定を再読込",
            ]);
            format!(
                "{} {level} trace={trace:016x} latency_ms={latency} {what}",
                time(number)
            )
        }
    };
    text.into_bytes()
}

fn web(numbers: &mut Numbers, number: usize) -> Vec<u8> {
    let host = numbers.below(250);
    let verb = numbers.pick(&["GET", "GET", "GET", "POST", "HEAD"]);
    let path = numbers.pick(&[
        "/",
        "/index.html",
        "/api/v1/logs",
        "/healthz",
        "/deadbeef.png",
    ]);
    let status = numbers.pick(&["200", "200", "304", "404", "502"]);
    let size = numbers.below(50_000);
    format!(
        "10.0.0.{host} - - [{}] \"{verb} {path} HTTP/1.1\" {status} {size}",
        time(number)
    )
    .into_bytes()
}

fn json(numbers: &mut Numbers, number: usize) -> Vec<u8> {
    let level = numbers.pick(&["info", "info", "warn", "error"]);
    let user = numbers.below(5_000);
    let message = numbers.pick(&[
        "login",
        "logout",
        "request timeout",
        "quota \\\"gold\\\" hit",
    ]);
    format!(
        "{{\"t\":\"{}\",\"level\":\"{level}\",\"user\":{user},\"msg\":\"{message}\"}}",
        time(number)
    )
    .into_bytes()
}

fn garbage(numbers: &mut Numbers, number: usize) -> Vec<u8> {
    match number % 200 {
        0 => Vec::new(),
        // A record may have 1 MiB, and must come back whole.
        1 if number == 1 => vec![b'x'; 1 << 20],
        7 => "stack overflow ".repeat(6_000).into_bytes(),
        13 => b"tab\tand\rreturn\0and nul".to_vec(),
        _ => {
            let count = usize::try_from(numbers.below(300)).expect("below 300");
            let mut bytes = numbers.bytes(count);
            bytes.retain(|byte| *byte != b'\n');
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_hold_what_breaks_naive_readers() {
        let garbage = lines(Source::Garbage, 500);
        assert!(garbage.iter().any(Vec::is_empty));
        assert!(
            garbage
                .iter()
                .any(|line| std::str::from_utf8(line).is_err())
        );
        assert!(garbage.iter().any(|line| line.len() == 1 << 20));
        assert!(garbage.iter().all(|line| !line.contains(&b'\n')));
        assert!(
            lines(Source::Service, 500)
                .iter()
                .any(|line| !line.is_ascii())
        );
    }

    #[test]
    fn the_same_lines_are_made_every_time() {
        for source in [Source::Service, Source::Web, Source::Json, Source::Garbage] {
            assert_eq!(lines(source, 300), lines(source, 300));
            assert_eq!(lines(source, 300)[..200], lines(source, 200));
        }
    }
}
