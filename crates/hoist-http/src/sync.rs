//! Mutexes that a panic does not poison: every critical section leaves its data consistent.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, which no holder keeps while it waits.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
