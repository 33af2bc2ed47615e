//! Threads of a name for work that blocks.

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// So many threads at most, each started when it is first needed. What finds none waits for one, and for nothing that blocks elsewhere.
#[derive(Debug)]
pub struct Pool(Option<Runtime>);

impl Pool {
    /// A pool whose threads have a name. None is started yet.
    ///
    /// # Errors
    /// When tokio finds no room for a runtime.
    pub fn new(name: &str, most: usize) -> std::io::Result<Self> {
        Builder::new_current_thread().thread_name(name).max_blocking_threads(most).build().map(|runtime| Self(Some(runtime)))
    }

    /// Does something there. It goes on when nobody waits for it any more.
    ///
    /// # Panics
    /// Never: the runtime is taken only when the pool is dropped.
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
