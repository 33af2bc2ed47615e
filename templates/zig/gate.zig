//! Rejects files that are too large, or empty.

const std = @import("std");
const sandhog = @import("sandhog.zig");

comptime {
    sandhog.gate(check);
}

const Params = struct { maximum: u64 = 100_000 };

fn check(subject: *const sandhog.Subject) sandhog.Failed!sandhog.Verdict {
    const params = try subject.readParams(Params);
    var findings: std.ArrayList(sandhog.Finding) = .empty;
    for (subject.files.get()) |file| {
        const rule = if (file.size == 0) "empty" else if (file.size > params.maximum) "too-large" else continue;
        const message = sandhog.format("it has {d} bytes, and may have 1 to {d}", .{ file.size, params.maximum });
        findings.append(sandhog.allocator, .{
            .rule = .of(rule),
            .severity = .medium,
            .message = .of(message),
            .location = .of(.{ .path = file.path }),
        }) catch @trap();
    }
    return sandhog.judge(findings.items);
}
