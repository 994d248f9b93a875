//! Programs offered to the kernel.

use aya::programs::ProgramError;

/// How often a program is offered to the verifier.
const LOADS: u32 = 10;

/// Offers a program to the kernel. A signal interrupts the verifier, which then wants to be asked again.
///
/// # Errors
/// Why the kernel does not take it.
pub fn load(mut offer: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOADS {
        match offer() {
            Err(ProgramError::LoadError { io_error, .. } | ProgramError::IOError(io_error))
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            loaded => return loaded,
        }
    }
    offer()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What comes of a program that the kernel refuses so often with this error, and how often it was offered.
    fn offered(refusals: u32, error: i32) -> (bool, u32) {
        let mut offers = 0;
        let loaded = load(|| {
            offers += 1;
            if offers > refusals {
                return Ok(());
            }
            Err(io::Error::from_raw_os_error(error).into())
        });
        (loaded.is_ok(), offers)
    }

    #[test]
    fn what_was_interrupted_is_offered_again() {
        assert_eq!(offered(0, libc::EAGAIN), (true, 1));
        assert_eq!(offered(3, libc::EAGAIN), (true, 4));
        assert_eq!(offered(u32::MAX, libc::EAGAIN), (false, LOADS));
        assert_eq!(offered(3, libc::EPERM), (false, 1));
    }
}
