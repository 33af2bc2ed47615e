//! What guests write: a bounded log of lines, and the standard output of a command as its artifact.
//!
//! A log never grows over its limit: it keeps a head and a tail and counts what it drops between them. Every line is
//! made safe to show as it comes in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use super::trap::Stop;
use crate::model::text::{LINE_BYTES_MAX, sanitize};
use crate::model::{Log, LogLine, LogSource};

/// How much a guest may write in one go. wasmtime's streams ask for a permit first, and never allocate more than it.
const WRITE_PERMIT_BYTES: usize = 64 * 1024;
/// What keeping a line costs beside its text; counted, so that a flood of empty lines is bounded too.
const LINE_OVERHEAD_BYTES: usize = size_of::<LogLine>();

#[derive(Debug)]
struct Lines {
    budget: usize,
    head: Vec<LogLine>,
    head_bytes: usize,
    tail: VecDeque<LogLine>,
    tail_bytes: usize,
    dropped_bytes: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The log of one attempt, shared between its streams and its `log` calls.
#[derive(Debug, Clone)]
pub(super) struct Capture(Arc<Mutex<Lines>>);

impl Capture {
    /// A log that keeps at most so many bytes.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Lines::new(usize::try_from(limit_bytes).unwrap_or(usize::MAX)))))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds a line of a `log` call.
    pub(super) fn line(&self, source: LogSource, text: &str) {
        let mut lines = self.lines();
        lines.push(source, text);
    }

    /// Adds bytes of a stream; a line ends at a line feed, and what is over-long of it is dropped.
    fn write(&self, source: LogSource, bytes: &[u8]) {
        let mut lines = self.lines();
        let mut parts = bytes.split(|b| *b == b'\n').peekable();
        while let Some(part) = parts.next() {
            lines.extend_partial(source, part);
            if parts.peek().is_some() {
                lines.end_partial(source);
            }
        }
    }

    /// The last lines of standard error, oldest first: where a panic's message is.
    pub(super) fn stderr_tail(&self, count: usize) -> Vec<String> {
        let mut lines = self.lines();
        lines.end_partial(LogSource::Stderr);
        let of_stderr = |line: &&LogLine| line.source == LogSource::Stderr;
        let mut tail: Vec<String> =
            lines.tail.iter().rev().chain(lines.head.iter().rev()).filter(of_stderr).take(count).map(|l| l.text.clone()).collect();
        tail.reverse();
        tail
    }

    /// Ends the log. What is written later belongs to another, which is empty.
    pub(super) fn finish(&self) -> Log {
        let mut lines = self.lines();
        lines.end_partial(LogSource::Stdout);
        lines.end_partial(LogSource::Stderr);
        let next = Lines::new(lines.budget);
        let Lines { head: mut kept, tail, dropped_bytes, .. } = std::mem::replace(&mut *lines, next);
        let gap_at = (dropped_bytes > 0).then_some(kept.len());
        kept.extend(tail);
        Log { lines: kept, gap_at, dropped_bytes }
    }
}

impl Lines {
    fn new(budget: usize) -> Self {
        Self {
            budget,
            head: Vec::new(),
            head_bytes: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            dropped_bytes: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    fn partial(&mut self, source: LogSource) -> &mut Vec<u8> {
        match source {
            LogSource::Stdout => &mut self.stdout,
            LogSource::Stderr | LogSource::Error | LogSource::Warn | LogSource::Info | LogSource::Debug | LogSource::Trace => {
                &mut self.stderr
            }
        }
    }

    fn extend_partial(&mut self, source: LogSource, bytes: &[u8]) {
        let partial = self.partial(source);
        let room = LINE_BYTES_MAX - partial.len().min(LINE_BYTES_MAX);
        let kept = &bytes[..bytes.len().min(room)];
        partial.extend_from_slice(kept);
        self.dropped_bytes += (bytes.len() - kept.len()) as u64;
    }

    fn end_partial(&mut self, source: LogSource) {
        let partial = std::mem::take(self.partial(source));
        if !partial.is_empty() {
            self.push(source, &String::from_utf8_lossy(&partial));
        }
    }

    fn push(&mut self, source: LogSource, text: &str) {
        let line = LogLine { source, text: sanitize(text, LINE_BYTES_MAX) };
        let cost = line.text.len() + LINE_OVERHEAD_BYTES;
        let half = self.budget / 2;
        if self.tail.is_empty() && self.dropped_bytes == 0 && self.head_bytes + cost <= half {
            self.head_bytes += cost;
            self.head.push(line);
            return;
        }
        self.tail_bytes += cost;
        self.tail.push_back(line);
        while self.tail_bytes > half {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.text.len() + LINE_OVERHEAD_BYTES;
            self.dropped_bytes += oldest.text.len() as u64;
        }
    }
}

/// Standard output or standard error, going to the log.
#[derive(Clone)]
pub(super) struct LogStream {
    pub(super) capture: Capture,
    pub(super) source: LogSource,
}

/// Standard output of a command: its artifact, whole or not at all.
#[derive(Debug, Clone)]
pub(super) struct OutputCapture {
    limit: usize,
    buffer: Arc<Mutex<BytesMut>>,
}

impl OutputCapture {
    /// Takes at most so many bytes; one more ends the guest.
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit: usize::try_from(limit_bytes).unwrap_or(usize::MAX), buffer: Arc::default() }
    }

    /// What was written.
    pub(super) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.buffer.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).freeze()
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl IsTerminal for OutputCapture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // WASI 0.3 only, which this host does not link
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for OutputCapture {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // WASI 0.3 only, which this host does not link
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl Pollable for OutputCapture {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > WRITE_PERMIT_BYTES {
            return Err(StreamError::Trap(Stop::Output { what: "one write to a standard stream" }.into()));
        }
        self.capture.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_PERMIT_BYTES)
    }
}

impl OutputStream for OutputCapture {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let mut buffer = self.buffer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bytes.len() > WRITE_PERMIT_BYTES || bytes.len() > self.limit - buffer.len() {
            return Err(StreamError::Trap(Stop::Output { what: "standard output" }.into()));
        }
        buffer.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_PERMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_out_as_written_and_a_flood_keeps_head_and_tail() {
        let capture = Capture::new(1024);
        capture.write(LogSource::Stdout, b"one\ntw");
        capture.line(LogSource::Info, "between");
        capture.write(LogSource::Stdout, b"o\n\xff\n");
        let log = capture.finish();
        let texts: Vec<_> = log.lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["one", "between", "two", "\u{fffd}"]);
        assert_eq!((log.gap_at, log.dropped_bytes), (None, 0));

        let capture = Capture::new(1024);
        for i in 0..1000 {
            capture.line(LogSource::Info, &format!("line {i}"));
        }
        let log = capture.finish();
        assert_eq!(log.lines.first().map(|l| l.text.as_str()), Some("line 0"));
        assert_eq!(log.lines.last().map(|l| l.text.as_str()), Some("line 999"));
        assert!(log.dropped_bytes > 0 && log.gap_at.is_some());
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_log_stays_within_its_limit(limit in 0_u64..8192, writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..40)) {
            let capture = Capture::new(limit);
            for bytes in &writes {
                capture.write(LogSource::Stderr, bytes);
            }
            let log = capture.finish();
            let kept: usize = log.lines.iter().map(|l| l.text.len() + LINE_OVERHEAD_BYTES).sum();
            prop_assert!(kept as u64 <= limit);
        }
    }
}
