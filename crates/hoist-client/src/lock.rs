//! Locking of mutexes that guard plain data.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex even if another holder has panicked: no holder leaves the data in an inconsistent state.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
