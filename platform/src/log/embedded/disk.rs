//! The operations that change files: the writer of the log reaches the disk only through [`Disk`]. Tests give it
//! [`Faults`] and thereby decide which write or fsync fails; without them it is a plain call.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

/// What can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    /// Making a segment file.
    Create,
    /// Writing bytes into one; half of them are written before the failure, as a full disk does.
    Write,
    /// Making a file's bytes or its folder durable.
    Sync,
    /// Claiming room for a file.
    Reserve,
    /// Cutting a file.
    Truncate,
}

/// One planned failure.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What fails.
    pub operation: DiskOperation,
    /// How many of its kind pass before.
    pub skip: u64,
    /// How many fail then.
    pub times: u64,
    /// The error number they fail with.
    pub errno: i32,
}

/// Failures planned by a test.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Plans one more.
    pub fn plan(&self, fault: Fault) {
        self.plan.lock().push(fault);
    }

    /// Ends all failures.
    pub fn clear(&self) {
        self.plan.lock().clear();
    }

    fn check(&self, operation: DiskOperation) -> io::Result<()> {
        let mut plan = self.plan.lock();
        for fault in plan.iter_mut().filter(|fault| fault.operation == operation) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }
}

/// The disk, or one that fails on purpose.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    faults: Option<Arc<Faults>>,
}

impl Disk {
    /// A disk with planned failures.
    #[must_use]
    pub fn failing(faults: &Arc<Faults>) -> Self {
        Self { faults: Some(Arc::clone(faults)) }
    }

    fn check(&self, operation: DiskOperation) -> io::Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.check(operation))
    }

    /// Makes a new, empty file; a leftover of the same name goes first.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.check(DiskOperation::Create)?;
        remove_if_there(path)?;
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// Writes parts one behind the other.
    pub(super) fn write_at<'a>(
        &self,
        file: &File,
        parts: impl IntoIterator<Item = &'a [u8]>,
        at: u64,
    ) -> io::Result<()> {
        let parts: Vec<&[u8]> = parts.into_iter().collect();
        match self.check(DiskOperation::Write) {
            Ok(()) => write_parts(file, &parts, at),
            Err(error) => {
                let whole = parts.concat();
                write_parts(file, &[&whole[..whole.len() / 2]], at)?;
                Err(error)
            }
        }
    }

    /// Makes the bytes and the length durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.check(DiskOperation::Sync)?;
        file.sync_data()
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.check(DiskOperation::Sync)?;
        File::open(folder)?.sync_all()
    }

    /// Claims room for a file without changing its length, so that a log that goes on after a full disk has it.
    pub(super) fn reserve(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.check(DiskOperation::Reserve)?;
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes) {
            // Some file systems cannot; then the next write finds out.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.check(DiskOperation::Truncate)?;
        file.set_len(bytes)
    }
}

/// Hands the parts to the kernel as they lie in memory, as many at a time as it takes.
fn write_parts(file: &File, parts: &[&[u8]], mut at: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let now = left.len().min(SLICES_MAX);
        match rustix::io::pwritev(file, &left[..now], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The most parts that one call takes: `IOV_MAX` of Linux.
const SLICES_MAX: usize = 1024;

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
