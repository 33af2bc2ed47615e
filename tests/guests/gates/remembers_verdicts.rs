//! Remembers how often it judged, and says so.
use std::sync::atomic::{AtomicU32, Ordering};

use sandhog_guest::{Failure, Subject, Verdict};

sandhog_guest::gate!(check);

static JUDGED: AtomicU32 = AtomicU32::new(0);

fn check(_subject: Subject) -> Result<Verdict, Failure> {
    let mut verdict = Verdict::from_findings(vec![]);
    verdict.summary = format!("judgement {}", JUDGED.fetch_add(1, Ordering::Relaxed) + 1);
    Ok(verdict)
}
