//! Tests of the store in memory: the contract with and without faults, and what a crash takes.

#[cfg(feature = "contract")]
mod keeps_the_contract {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::{Faults, MemoryStore};
    use crate::contract::{self, Site};
    use crate::store::{Pending, Store};

    struct Memory(MemoryStore);

    impl Site for Memory {
        fn open(&self) -> Pending<'_, Arc<dyn Store>> {
            self.0.crash();
            Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Store> })
        }

        fn directory(&self) -> &Path {
            Path::new("exports")
        }

        fn exported(&self, name: &str) -> Option<Vec<u8>> {
            self.0.exported(self.directory(), name)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn at_once() {
        contract::run(|| Memory(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn with_delays() {
        for seed in 0..5 {
            let faults = Faults { yields_max: 4, ..Faults::NONE };
            contract::run(|| Memory(MemoryStore::with_faults(seed, faults))).await;
        }
    }
}
