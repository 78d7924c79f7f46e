//! An open file of a simulated disk.
//!
//! Promises: what takes effect is in the journal, and what is in the journal took effect. Must not know: names.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::SimDisk;
use super::fault::{Call, no_space};
use super::gate::Gate;
use super::journal::{FileId, Operation};
use crate::io::{DiskFile, Map};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) id: FileId,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Some(stored) = state.files.get_mut(&self.id.number) {
            stored.handles -= 1;
        }
        state.forget_unused(self.id.number);
    }
}

impl SimFile {
    fn file(&self) -> FileId {
        self.id.clone()
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state().rotten(&self.id)?.size())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(Call::Read)?;
        let content = state.rotten(&self.id)?;
        if !buffer.is_empty() && position + buffer.len() as u64 > content.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.read(buffer, position);
        Ok(())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            bytes.put_slice(part);
        }
        let bytes = bytes.freeze();
        let mut state = self.disk.state();
        let free = state.free();
        let fault = state.faults.meet(Call::Write);
        let content = state.content(self.id.number)?;
        // A disk that gets full takes what fits.
        let fitting = content.writable(position, bytes.len(), free);
        let size = fault
            .as_ref()
            .map_or(fitting, |fault| fault.partly.min(fitting));
        let written = bytes.slice(..size);
        if !written.is_empty() {
            Arc::make_mut(content).write(&written, position);
            let file = self.file();
            state.log(Operation::Write {
                file,
                position,
                bytes: written,
            });
        }
        match fault {
            Some(fault) => Err(fault.error()),
            None if size < bytes.len() => Err(no_space()),
            None => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        Gate::pass(&mut state, &self.disk.shared.gate);
        let fault = state.faults.meet(Call::Sync);
        let file = self.file();
        let Some(fault) = fault else {
            state.log(Operation::Sync { file });
            return Ok(());
        };
        if fault.marks_clean {
            state.log(Operation::FailedSync { file });
        }
        Err(fault.error())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(Call::Allocate)?;
        let free = state.free();
        let content = state.content(self.id.number)?;
        if !content.can_reserve(size, free) {
            return Err(no_space());
        }
        Arc::make_mut(content).reserve(size);
        let file = self.file();
        state.log(Operation::Allocate { file, size });
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(Call::SetSize)?;
        Arc::make_mut(state.content(self.id.number)?).set_size(size);
        let file = self.file();
        state.log(Operation::SetSize { file, size });
        Ok(())
    }

    fn forget(&self, _position: u64, _size: u64) -> io::Result<()> {
        // Every read asks the disk.
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        let content = self.disk.state().rotten(&self.id)?;
        Ok(Map::from(Bytes::from(content.to_vec())))
    }
}
