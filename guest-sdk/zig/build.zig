//! The package: one module.
const std = @import("std");

pub fn build(b: *std.Build) void {
    _ = b.addModule("sandhog", .{ .root_source_file = b.path("sandhog.zig") });
}
