//! Headers that lie and records that disagree with theirs: each is refused, and named.

use super::*;

#[test]
fn forged_headers_are_refused() {
    let batch = encode(&short_lines(3));
    let (good, bytes) = (batch.header, &batch.records[..]);
    assert!(Batches::parse(forged(&good, bytes)).is_ok());
    let plain_max = u32::try_from(PLAIN_SIZE_MAX).unwrap();
    let forgeries = [
        ("no record", BatchHeader { records: 0, ..good }),
        (
            "more records than bytes",
            BatchHeader {
                records: good.plain_size,
                ..good
            },
        ),
        (
            "too many records",
            BatchHeader {
                records: u32::MAX,
                ..good
            },
        ),
        (
            "too large",
            BatchHeader {
                codec: Codec::Lz4,
                plain_size: plain_max + 1,
                ..good
            },
        ),
        (
            "beyond LZ4's ratio",
            BatchHeader {
                codec: Codec::Lz4,
                plain_size: plain_max,
                ..good
            },
        ),
        (
            "plain of another size",
            BatchHeader {
                plain_size: good.plain_size + 1,
                ..good
            },
        ),
        (
            "LZ4 that is not smaller",
            BatchHeader {
                codec: Codec::Lz4,
                ..good
            },
        ),
        (
            "beyond the payload",
            BatchHeader {
                encoded_size: good.encoded_size + 1,
                plain_size: good.plain_size + 1,
                ..good
            },
        ),
        (
            "turned timestamps",
            BatchHeader {
                timestamp_min: i64::MAX,
                ..good
            },
        ),
    ];
    for (what, header) in forgeries {
        assert!(Batches::parse(forged(&header, bytes)).is_err(), "{what}");
    }
}

#[test]
fn records_that_disagree_with_their_header_are_refused() {
    let batch = encode(&short_lines(4));
    assert_eq!(batch.header.codec, Codec::Plain);
    let disagreements = [
        (
            "fewer records",
            BatchHeader {
                records: 3,
                ..batch.header
            },
        ),
        (
            "more records",
            BatchHeader {
                records: 5,
                ..batch.header
            },
        ),
        (
            "an earlier latest timestamp",
            BatchHeader {
                timestamp_max: 10,
                ..batch.header
            },
        ),
        (
            "a later earliest timestamp",
            BatchHeader {
                timestamp_min: 10,
                ..batch.header
            },
        ),
    ];
    for (what, header) in disagreements {
        let batches = Batches::parse(forged(&header, &batch.records)).unwrap();
        assert!(batches.records(0, 0).is_err(), "{what}");
    }
}

#[test]
fn a_batch_that_is_not_there_is_an_error() {
    let batches = Batches::parse(join(&[encode(&lines(1))], 0)).unwrap();
    assert!(batches.records(1, 0).is_err());
}

#[test]
fn unknown_versions_codecs_flags_and_counts_are_refused() {
    let payload = join(&[encode(&lines(1))], 0);
    assert_eq!(payload[..4], VERSION.to_le_bytes());
    // Version, batch count, codec, flags, reserved, and the expected offset and producer that are absent.
    let header = PREAMBLE_SIZE;
    for (place, byte) in [
        (0, 2),
        (4, 0),
        (4, 2),
        (header + 76, 2),
        (header + 77, 4),
        (header + 78, 1),
    ]
    .into_iter()
    .chain([8, 16, 24, 60].map(|place| (header + place, 1)))
    {
        let mut changed = payload.to_vec();
        changed[place] = byte;
        assert!(
            Batches::parse(Bytes::from(changed)).is_err(),
            "byte {place} = {byte}"
        );
    }
}
