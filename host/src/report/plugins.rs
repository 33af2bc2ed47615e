//! Plugins, as they are told to programs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::SCHEMA_VERSION;
use crate::model::limits::LimitsPatch;
use crate::model::{Grant, Request};
use crate::registry::{Entry, Held, Registry, Shelf};

/// What the plugin folders hold, and what of it serves.
#[must_use]
pub fn plugins_json(shelf: &Shelf) -> Value {
    let held = |held: &Held| {
        let mut object = entry_json(&held.entry);
        object["reason"] = held.reason.as_ref().into();
        object
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "plugins": shelf.plugins.values().map(|entry| entry_json(entry)).collect::<Vec<_>>(),
        "held": shelf.held.values().map(held).collect::<Vec<_>>(),
        "disabled": shelf.disabled.values().map(|entry| entry_json(entry)).collect::<Vec<_>>(),
        "shadowed": shelf.shadowed.iter().map(|entry| entry_json(entry)).collect::<Vec<_>>(),
        "bad": shelf.bad.iter().map(|(path, bad)| json!({ "path": path.to_string_lossy(), "problem": bad.to_string() })).collect::<Vec<_>>(),
    })
}

/// How a plugin stands: `serves`, `held`, `disabled` or `shadowed`.
#[must_use]
pub fn plugin_state(shelf: &Shelf, entry: &Arc<Entry>) -> &'static str {
    let is_it = |other: Option<&Arc<Entry>>| other.is_some_and(|other| Arc::ptr_eq(other, entry));
    match () {
        () if is_it(shelf.disabled.get(&entry.name)) => "disabled",
        () if is_it(shelf.held.get(&entry.name).map(|held| &held.entry)) => "held",
        () if shelf.shadowed.iter().any(|other| Arc::ptr_eq(other, entry)) => "shadowed",
        () => "serves",
    }
}

/// A plugin in a few fields.
#[must_use]
pub fn entry_json(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "kind": entry.kind,
        "version": entry.manifest.version,
        "description": entry.manifest.description,
        "path": entry.path.to_string_lossy(),
        "size_bytes": entry.size_bytes,
        "digest": entry.digest,
    })
}

/// All about a plugin, but for where it came from.
#[must_use]
pub fn plugin_json(registry: &Registry, entry: &Arc<Entry>) -> Value {
    let budget = registry.compile_budget(entry);
    let limits = registry.limits(entry, &LimitsPatch::default());
    let grant = registry.grant(entry);
    let requests = entry.manifest.requests.as_deref().unwrap_or_default();
    let mut object = entry_json(entry);
    let covered = |request: &Request| grant.as_ref().is_ok_and(|grant| grant.covers(request));
    object["schema_version"] = SCHEMA_VERSION.into();
    object["state"] = plugin_state(&registry.shelf(), entry).into();
    object["compile"] = json!({ "cpu_seconds": budget.cpu.as_secs(), "memory_bytes": budget.memory });
    object["authors"] = json!(entry.manifest.authors);
    object["license"] = json!(entry.manifest.license);
    object["source"] = json!(entry.manifest.source);
    object["params"] = json!(entry.component.params.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()));
    object["exports"] = json!(entry.component.exports);
    object["imports"] = json!(entry.component.imports);
    object["limits"] = json!(limits.as_ref().ok());
    object["scope"] = json!(entry.manifest.scope);
    object["requests"] = requests
        .iter()
        .map(|request| {
            let mut object = json!(request);
            object["what"] = request.what().into();
            object["granted"] = covered(request).into();
            object
        })
        .collect();
    object["grant"] = json!(grant.as_ref().ok());
    object["grants"] = json!(grant.as_ref().ok().map(grant_lines));
    object["deterministic"] = json!(grant.as_ref().ok().map(Grant::is_deterministic));
    object["held"] = json!(grant.as_ref().err().or(limits.as_ref().err()).map(ToString::to_string));
    object
}

/// What a plugin may touch, in a line each.
#[must_use]
pub fn grant_lines(grant: &Grant) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(grant.files.iter().map(|file| format!("files {} at {} ({})", file.path.display(), file.at, file.access.as_str())));
    lines.extend(grant.environment.keys().map(|name| format!("environment variable {name}")));
    lines.extend(grant.clock.then(|| "clock".to_owned()));
    lines.extend(grant.randomness.then(|| "randomness".to_owned()));
    lines.extend(grant.reuses().then(|| format!("up to {} tasks for one instance", grant.reuse)));
    lines.extend(grant.outbound.iter().map(|outbound| {
        let private = if outbound.private { ", which may be a private address" } else { "" };
        format!("requests to {}{private}", outbound.origin)
    }));
    lines.extend(grant.secrets.iter().map(|secret| format!("the secret {}, added to requests to {}", secret.name, secret.host)));
    if lines.is_empty() {
        lines.push("nothing".to_owned());
    }
    let determinism =
        if grant.is_deterministic() { "equal inputs give equal outputs and fuel" } else { "outputs may differ from run to run" };
    lines.push(format!("({determinism})"));
    lines
}
