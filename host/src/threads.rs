//! Threads of a name for work that blocks.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// For how long a thread without work is kept: where the machine has no more of them to give, there is one.
const KEPT: Duration = Duration::from_hours(1);

/// So many threads at most, each started when it is first needed. What finds none waits for one, and for nothing that blocks elsewhere.
#[derive(Debug)]
pub struct Pool(Option<Runtime>);

impl Pool {
    /// A pool whose threads have a name. None is started yet.
    ///
    /// # Panics
    /// Never: what drives neither sockets nor timers asks nothing of the machine.
    #[must_use]
    pub fn new(name: &str, most: usize) -> Self {
        let runtime = Builder::new_current_thread().thread_name(name).max_blocking_threads(most).thread_keep_alive(KEPT).build();
        Self(Some(runtime.expect("it has no driver")))
    }

    /// Does something there. It goes on when nobody waits for it any more.
    ///
    /// # Panics
    /// Where there is no thread yet, and the machine has none to give.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.0.as_ref().expect("taken only when the pool is dropped").spawn_blocking(work)
    }
}

impl Drop for Pool {
    /// Waits for nothing: what has begun goes on, what has not is given up.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
