//! Prints the last ten records of a log, and then every new one, whatever happens to the connections.
//!
//! `cargo run -p inkstone-client --example follow -- 127.0.0.1:7420 example`

use std::io::Write;

use futures::TryStreamExt;
use inkstone_client::{Client, Follow, ReadEvent, ReadOptions, Start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7420".to_owned());
    let log = arguments.next().unwrap_or_else(|| "example".to_owned());
    let client = Client::connect(server)?;
    let options = ReadOptions {
        from: Start::Last(10),
        follow: Follow::Yes,
        ..ReadOptions::new(log)
    };
    let mut events = client.read(options);
    let mut out = std::io::stdout();
    while let Some(event) = events.try_next().await? {
        match event {
            ReadEvent::Records(records) => {
                for record in records {
                    writeln!(
                        out,
                        "{}: {}",
                        record.offset,
                        String::from_utf8_lossy(&record.body)
                    )?;
                }
            }
            ReadEvent::Gap(gap) => {
                writeln!(
                    out,
                    "(offsets {} to {} can't be read)",
                    gap.from,
                    gap.to - 1
                )?;
            }
            ReadEvent::CaughtUp { next_offset } => {
                writeln!(out, "(waiting for offset {next_offset})")?;
            }
            ReadEvent::View { .. } | ReadEvent::Heartbeat { .. } => {}
        }
    }
    Ok(())
}
