// Rejects files that are too large, or empty.
import { Answer, Finding, Severity, Subject } from "./sandhog";

export { cabi_realloc } from "./sandhog";

export function sandhog_gate_check(at: usize): usize {
  const subject = new Subject(at);
  const maximum = subject.params.number("maximum", 100_000);
  const findings: Finding[] = [];
  for (let index = 0; index < subject.files.length; index++) {
    const file = subject.files[index];
    const rule = file.size == 0 ? "empty" : file.size > (maximum as u64) ? "too-large" : "";
    if (rule.length == 0) continue;
    findings.push(new Finding(rule, Severity.Medium, `it has ${file.size} bytes, and may have 1 to ${maximum}`, file.path));
  }
  return Answer.verdict(findings);
}
