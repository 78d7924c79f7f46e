//! Lines, records and cuts.

use super::*;

fn lines(input: &'static [u8], syntax: Syntax) -> Lines {
    Lines::new(Box::new(input), syntax)
}

async fn bodies(input: &'static [u8], syntax: Syntax) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut lines = lines(input, syntax);
    let mut bodies = Vec::new();
    while let Some(record) = lines.next().await? {
        bodies.push(record.body.to_vec());
    }
    Ok(bodies)
}

async fn cut(input: &'static [u8], records: usize, bytes: usize) -> Vec<usize> {
    let bounds = Bounds {
        records,
        bytes,
        linger: None,
    };
    let mut cutter = Cutter::new(lines(input, Syntax::Text), bounds);
    let mut sizes = Vec::new();
    while let Some(batch) = cutter.next_batch().await.unwrap() {
        sizes.push(batch.len());
    }
    sizes
}

#[tokio::test]
async fn line_ends_are_stripped_and_the_last_one_may_be_missing() {
    let text = |input| bodies(input, Syntax::Text);
    assert_eq!(text(b"a\nb\r\nc").await.unwrap(), [b"a", b"b", b"c"]);
    assert_eq!(text(b"a\nb\r\nc\n").await.unwrap(), [b"a", b"b", b"c"]);
    assert_eq!(text(b"a\n\nb\n").await.unwrap(), [&b"a"[..], b"", b"b"]);
    assert_eq!(text(b"a\rb\n").await.unwrap(), [b"a\rb"]);
    assert_eq!(text(b"").await.unwrap(), Vec::<Vec<u8>>::new());
    assert_eq!(text(b"\n").await.unwrap(), [b""]);
}

#[tokio::test]
async fn bytes_that_are_not_utf8_stay_as_they_are() {
    let bodies = bodies(b"\xff\xfe\n\0x\n", Syntax::Text).await.unwrap();
    assert_eq!(bodies, [&b"\xff\xfe"[..], b"\0x"]);
}

#[tokio::test]
async fn a_line_that_comes_in_pieces_is_one_record() {
    let input = tokio::io::BufReader::with_capacity(2, &b"abcdefg\nh\n"[..]);
    let mut lines = Lines::new(Box::new(input), Syntax::Text);
    assert_eq!(lines.next().await.unwrap().unwrap().body, "abcdefg");
    assert_eq!(lines.next().await.unwrap().unwrap().body, "h");
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_line_over_the_bound_is_refused_by_its_number() {
    let input = [b"short\n".to_vec(), vec![b'x'; RECORD_SIZE_MAX + 2]].concat();
    let mut lines = Lines::new(Box::new(std::io::Cursor::new(input)), Syntax::Text);
    assert!(lines.next().await.unwrap().is_some());
    let error = lines.next().await.unwrap_err().to_string();
    assert!(
        error.starts_with("line 2 is longer than 1048576 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn batches_end_at_the_records_or_the_bytes() {
    assert_eq!(cut(b"a\nb\nc\nd\ne\n", 2, 100).await, [2, 2, 1]);
    assert_eq!(cut(b"aa\nbb\ncc\n", 100, 4).await, [2, 1]);
    assert_eq!(cut(b"aaaaaaaa\nb\n", 100, 4).await, [1, 1]);
}

#[tokio::test]
async fn records_that_are_put_back_begin_the_next_batch() {
    let bounds = Bounds {
        records: 2,
        bytes: 100,
        linger: None,
    };
    let mut cutter = Cutter::new(lines(b"a\nb\nc\n", Syntax::Text), bounds);
    let mut batch = cutter.next_batch().await.unwrap().unwrap();
    cutter.put_back(batch.split_off(1));
    let next = cutter.next_batch().await.unwrap().unwrap();
    assert_eq!(next, [NewRecord::new("b"), NewRecord::new("c")]);
}

#[tokio::test]
async fn a_bad_line_is_reported_behind_the_good_ones() {
    let input = b"{\"body\":\"a\"}\nnonsense\n{\"body\":\"b\"}\n";
    let bounds = Bounds {
        records: 10,
        bytes: 100,
        linger: Some(Duration::from_secs(60)),
    };
    let mut cutter = Cutter::new(lines(input, Syntax::Json), bounds);
    assert_eq!(cutter.next_batch().await.unwrap().unwrap().len(), 1);
    let error = cutter.next_batch().await.unwrap_err().to_string();
    assert_eq!(error, "line 2");
}

#[tokio::test]
async fn json_gives_body_timestamp_and_attributes_in_order() {
    let input = br#"{"body":"x","timestamp":7,"attributes":{"z":"1","a":"2"},"offset":3}
{"body_base64":"//4=","timestamp":"1970-01-01T00:00:01Z","attributes":[["k","1"],["k","2"]]}

"#;
    let mut lines = lines(input, Syntax::Json);
    let first = NewRecord::new("x")
        .with_timestamp(7)
        .with_attribute("z", "1")
        .with_attribute("a", "2");
    assert_eq!(lines.next().await.unwrap(), Some(first));
    let second = NewRecord::new(vec![0xff, 0xfe])
        .with_timestamp(1_000_000_000)
        .with_attribute("k", "1")
        .with_attribute("k", "2");
    assert_eq!(lines.next().await.unwrap(), Some(second));
    assert_eq!(lines.next().await.unwrap(), None);
}

#[tokio::test]
async fn json_that_is_no_record_is_refused() {
    for input in [
        &b"{}"[..],
        b"[1]",
        b"{\"body\":1}",
        b"{\"body\":\"x\",\"bdy\":1}",
        b"{\"body\":\"x\",\"body_base64\":\"\"}",
        b"{\"body_base64\":\"?\"}",
        b"{\"body\":\"x\",\"timestamp\":\"soon\"}",
    ] {
        assert!(
            bodies(input, Syntax::Json).await.is_err(),
            "{}",
            String::from_utf8_lossy(input)
        );
    }
}
