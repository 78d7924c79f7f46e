//! A snapshot on its way in: parts become one body, which is handed on only when it is whole.
//!
//! Promises: holds no more than was announced, and refuses an announcement over the bound before it holds anything; nothing
//! is changed by a transfer that breaks off. Must not know: what the body says, the network.

use bytes::{Bytes, BytesMut};
use inkstone_proto::peer_v1 as peer;
use inkstone_storage::limits::SNAPSHOT_SIZE_MAX;

use crate::raft::wire::Malformed;

/// The parts of one snapshot that have come so far.
#[derive(Debug)]
pub(crate) struct Transfer {
    start: peer::SnapshotStart,
    size: usize,
    body: BytesMut,
}

impl Transfer {
    /// Begins with the first part, if there is one.
    pub(crate) fn begin(first: Option<peer::SnapshotPart>) -> Result<Self, Malformed> {
        let missing = || Malformed("snapshot: the first part has no start".to_owned());
        let peer::SnapshotPart { start, bytes } = first.ok_or_else(missing)?;
        let start = start.ok_or_else(missing)?;
        let size = usize::try_from(start.size).unwrap_or(usize::MAX);
        if size > SNAPSHOT_SIZE_MAX {
            return Err(Malformed(format!(
                "snapshot: {size} bytes; the most is {SNAPSHOT_SIZE_MAX} (snapshot_size_max)"
            )));
        }
        let mut transfer = Self {
            start,
            size,
            body: BytesMut::new(),
        };
        transfer.add(&bytes)?;
        Ok(transfer)
    }

    /// For whom it is.
    pub(crate) fn header(&self) -> Option<&peer::Header> {
        self.start.header.as_ref()
    }

    /// Takes the next part.
    pub(crate) fn take(&mut self, part: &peer::SnapshotPart) -> Result<(), Malformed> {
        if part.start.is_some() {
            return Err(Malformed("snapshot: it starts twice".to_owned()));
        }
        self.add(&part.bytes)
    }

    fn add(&mut self, bytes: &Bytes) -> Result<(), Malformed> {
        let size = self.body.len() + bytes.len();
        if size > self.size {
            return Err(Malformed(format!(
                "snapshot: {} bytes were announced, {size} have come",
                self.size
            )));
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// The sender's vote and the body, when all of it has come.
    pub(crate) fn finish(self) -> Result<(Option<peer::Vote>, Bytes), Malformed> {
        if self.body.len() != self.size {
            return Err(Malformed(format!(
                "snapshot: {} bytes were announced, {} have come",
                self.size,
                self.body.len()
            )));
        }
        let crc = crc32fast::hash(&self.body);
        if crc != self.start.crc {
            return Err(Malformed(format!(
                "snapshot: its crc is {crc:08x}, expected {:08x}",
                self.start.crc
            )));
        }
        Ok((self.start.vote, self.body.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(size: u64, body: &[u8]) -> peer::SnapshotStart {
        peer::SnapshotStart {
            header: None,
            vote: Some(peer::Vote::default()),
            size,
            crc: crc32fast::hash(body),
        }
    }

    fn part(
        start: impl Into<Option<peer::SnapshotStart>>,
        bytes: &'static [u8],
    ) -> peer::SnapshotPart {
        peer::SnapshotPart {
            start: start.into(),
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn parts_become_the_body_that_was_sent() {
        let mut transfer = Transfer::begin(Some(part(start(5, b"state"), b"st"))).unwrap();
        transfer.take(&part(None, b"at")).unwrap();
        transfer.take(&part(None, b"e")).unwrap();
        assert_eq!(transfer.finish().unwrap().1, Bytes::from_static(b"state"));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let begin = |size, bytes| Transfer::begin(Some(part(start(size, b"state"), bytes)));
        assert!(Transfer::begin(None).is_err());
        assert!(Transfer::begin(Some(part(None, b"state"))).is_err());
        assert!(begin(5, b"stat").unwrap().finish().is_err(), "too short");
        assert!(begin(5, b"stale").unwrap().finish().is_err(), "its crc");
        assert!(begin(4, b"state").is_err(), "too long");
        let mut again = begin(5, b"st").unwrap();
        assert!(again.take(&part(start(5, b"state"), b"ate")).is_err());
        assert!(again.take(&part(None, b"ates")).is_err(), "too long");
    }

    #[test]
    fn more_than_the_bound_is_refused_before_anything_is_held() {
        let size = SNAPSHOT_SIZE_MAX as u64 + 1;
        let refused = Transfer::begin(Some(part(start(size, b""), b""))).unwrap_err();
        assert!(refused.0.contains("snapshot_size_max"), "{refused}");
    }
}
