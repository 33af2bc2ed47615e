//! Write sandhog plugins in Zig: one function, and one line that makes it a worker or a gate.
//!
//!     const sandhog = @import("sandhog.zig");
//!
//!     comptime {
//!         sandhog.worker(run);
//!     }
//!
//!     fn run(task: *const sandhog.Task) sandhog.Failed![]const sandhog.Artifact {
//!         const input = try task.input();
//!         return sandhog.one(.{ .name = .of("copy.txt"), .media_type = .of("text/plain"), .content = input.content });
//!     }
//!
//! Build: zig build-exe -target wasm32-freestanding -fno-entry -rdynamic -O ReleaseSmall; then `sandhog pack` makes a plugin of the module.
//!
//! Every structure is laid out as the component model's canonical ABI has it, so nothing is converted. Nothing is freed either: each
//! call runs in an instance of its own, whose memory goes with it.

const std = @import("std");

/// Where everything is allocated: an instance lives for one call.
pub const allocator = std.heap.wasm_allocator;

/// Bytes: a text in UTF-8, or content.
pub const Bytes = extern struct {
    at: [*]const u8,
    length: usize,

    pub fn of(slice: []const u8) Bytes {
        return .{ .at = slice.ptr, .length = slice.len };
    }

    pub fn get(bytes: Bytes) []const u8 {
        return if (bytes.length == 0) "" else bytes.at[0..bytes.length];
    }
};

/// A list of values.
pub fn List(comptime T: type) type {
    return extern struct {
        at: [*]const T,
        length: usize,

        pub fn of(slice: []const T) @This() {
            return .{ .at = slice.ptr, .length = slice.len };
        }

        pub fn get(list: @This()) []const T {
            return if (list.length == 0) &.{} else list.at[0..list.length];
        }
    };
}

/// A value that may be absent.
pub fn Optional(comptime T: type) type {
    return extern struct {
        is: bool = false,
        value: T = undefined,

        pub fn of(value: T) @This() {
            return .{ .is = true, .value = value };
        }

        pub fn get(optional: @This()) ?T {
            return if (optional.is) optional.value else null;
        }
    };
}

/// A named piece of content: what a task is given, and what it makes.
pub const Artifact = extern struct { name: Bytes, media_type: Bytes, content: Bytes };

/// How much a finding matters, in rising order.
pub const Severity = enum(u8) { info, low, medium, high, critical };

/// A place in a text; counted from 1, columns in Unicode scalar values.
pub const Span = extern struct { start_line: u32, start_column: u32, end_line: u32, end_column: u32 };

pub const Location = extern struct { path: Bytes, span: Optional(Span) = .{} };

pub const Edit = extern struct { start: u64, end: u64, replacement: Bytes };

/// A mend that a program can make: all its edits, or none.
pub const Fix = extern struct { description: Bytes, edits: List(Edit), safe: bool };

/// One thing that a gate has to say about what it judged.
pub const Finding = extern struct {
    rule: Bytes,
    severity: Severity,
    message: Bytes,
    location: Optional(Location) = .{},
    suggestion: Optional(Bytes) = .{},
    help_url: Optional(Bytes) = .{},
    fix: Optional(Fix) = .{},
};

/// What a worker is asked to do; `params` is a JSON object.
pub const Task = extern struct {
    id: Bytes,
    run: Bytes,
    step: Bytes,
    attempt: u32,
    revision: u32,
    params: Bytes,
    inputs: List(Artifact),
    criteria: List(Bytes),
    feedback: List(Finding),
    previous: List(Artifact),

    /// The one input of a task that has exactly one.
    pub fn input(task: *const Task) Failed!*const Artifact {
        if (task.inputs.length != 1) return invalidInput("expected one input, found {d}", .{task.inputs.length});
        return &task.inputs.at[0];
    }

    /// The params as a struct: what does not fit, unknown names included, is an invalid input.
    pub fn readParams(task: *const Task, comptime T: type) Failed!T {
        return readJson(T, task.params);
    }
};

/// One file of a subject.
pub const File = extern struct { path: Bytes, size: u64, media_type: Bytes };

/// What an attempt used.
pub const Usage = extern struct { fuel: u64, peak_memory_bytes: u64, wall_time_ns: u64 };

/// What a gate is asked to judge. Contents are read through WASI, which a freestanding module has not: names, sizes, types, the task and
/// its usage are here.
pub const Subject = extern struct {
    files: List(File),
    task: Optional(Task),
    usage: Optional(Usage),
    params: Bytes,
    unit: Optional(Bytes),

    /// The params as a struct: what does not fit, unknown names included, is an invalid input.
    pub fn readParams(subject: *const Subject, comptime T: type) Failed!T {
        return readJson(T, subject.params);
    }
};

/// A figure that goes with a verdict.
pub const Metric = extern struct { name: Bytes, value: f64, unit: Bytes };

pub const Verdict = extern struct { fails: bool, findings: List(Finding), metrics: List(Metric), summary: Bytes };

/// A verdict that fails where a finding is of medium severity or more.
pub fn judge(findings: []const Finding) Verdict {
    var fails = false;
    for (findings) |finding| fails = fails or @intFromEnum(finding.severity) >= @intFromEnum(Severity.medium);
    const summary = format("{d} findings", .{findings.len});
    return .{ .fails = fails, .findings = .of(findings), .metrics = .of(&.{}), .summary = .of(summary) };
}

/// What a function returns that gives no answer: made by `invalidInput`, `transient` and `permanent`.
pub const Failed = error{Failed};

const Kind = enum(u8) { invalid_input, transient, permanent, cancelled };
const Failure = extern struct { kind: Kind, why: Bytes };

var failure: Failure = .{ .kind = .permanent, .why = .{ .at = "", .length = 0 } };

fn fail(kind: Kind, why: []const u8) Failed {
    failure = .{ .kind = kind, .why = .of(why) };
    return error.Failed;
}

/// The params or inputs are wrong. Never retried.
pub fn invalidInput(comptime text: []const u8, arguments: anytype) Failed {
    return fail(.invalid_input, format(text, arguments));
}

/// It may work the next time.
pub fn transient(comptime text: []const u8, arguments: anytype) Failed {
    return fail(.transient, format(text, arguments));
}

/// It will not work the next time either.
pub fn permanent(comptime text: []const u8, arguments: anytype) Failed {
    return fail(.permanent, format(text, arguments));
}

/// A text that lives as long as the instance.
pub fn format(comptime text: []const u8, arguments: anytype) []const u8 {
    return std.fmt.allocPrint(allocator, text, arguments) catch @trap();
}

/// One artifact as a worker's answer.
pub fn one(artifact: Artifact) []const Artifact {
    const list = allocator.alloc(Artifact, 1) catch @trap();
    list[0] = artifact;
    return list;
}

fn readJson(comptime T: type, json: Bytes) Failed!T {
    return std.json.parseFromSliceLeaky(T, allocator, json.get(), .{}) catch |reason| invalidInput("params: {t}", .{reason});
}

/// In falling order of importance.
pub const Level = enum(i32) { err, warn, info, debug, trace };

const host = struct {
    extern "sandhog:plugin/host@0.1.0" fn log(level: i32, at: [*]const u8, length: usize) void;
    extern "sandhog:plugin/host@0.1.0" fn progress(fraction: f64, at: [*]const u8, length: usize) void;
    extern "sandhog:plugin/host@0.1.0" fn @"fuel-used"() u64;
    extern "sandhog:plugin/host@0.1.0" fn cancelled() i32;
};

/// A line for the log of this attempt.
pub fn log(level: Level, comptime text: []const u8, arguments: anytype) void {
    const line = format(text, arguments);
    host.log(@intFromEnum(level), line.ptr, line.len);
}

/// How far the task has come, from 0 to 1.
pub fn progress(fraction: f64, note: []const u8) void {
    host.progress(fraction, note.ptr, note.len);
}

/// The fuel that this attempt has used so far.
pub fn fuelUsed() u64 {
    return host.@"fuel-used"();
}

/// Whether the task has been cancelled.
pub fn isCancelled() bool {
    return host.cancelled() != 0;
}

fn Answer(comptime T: type) type {
    return extern struct { failed: bool, is: extern union { answer: T, failure: Failure } };
}

fn exported(comptime Argument: type, comptime Result: type, comptime function: fn (*const Argument) Failed!Result, comptime wrap: anytype) type {
    return struct {
        const Wrapped = @typeInfo(@TypeOf(wrap)).@"fn".return_type.?;
        var answer: Answer(Wrapped) = undefined;

        fn call(argument: *const Argument) callconv(.c) *const Answer(Wrapped) {
            answer = if (function(argument)) |result|
                .{ .failed = false, .is = .{ .answer = wrap(result) } }
            else |_|
                .{ .failed = true, .is = .{ .failure = failure } };
            return &answer;
        }
    };
}

fn artifacts(list: []const Artifact) List(Artifact) {
    return .of(list);
}

fn same(verdict: Verdict) Verdict {
    return verdict;
}

/// Makes a function a worker.
pub fn worker(comptime function: fn (*const Task) Failed![]const Artifact) void {
    @export(&exported(Task, []const Artifact, function, artifacts).call, .{ .name = "sandhog:plugin/worker@0.1.0#run" });
    @export(&realloc, .{ .name = "cabi_realloc" });
}

/// Makes a function a gate.
pub fn gate(comptime function: fn (*const Subject) Failed!Verdict) void {
    @export(&exported(Subject, Verdict, function, same).call, .{ .name = "sandhog:plugin/gate@0.1.0#check" });
    @export(&realloc, .{ .name = "cabi_realloc" });
}

fn realloc(old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) callconv(.c) [*]u8 {
    if (new_size == 0) return @ptrFromInt(alignment);
    const made = allocator.alignedAlloc(u8, .@"16", new_size) catch @trap();
    if (old) |before| @memcpy(made[0..@min(old_size, new_size)], before[0..@min(old_size, new_size)]);
    return made.ptr;
}

comptime {
    std.debug.assert(@sizeOf(Artifact) == 24 and @sizeOf(Task) == 72 and @sizeOf(Finding) == 100);
    std.debug.assert(@sizeOf(Subject) == 144 and @sizeOf(File) == 24 and @sizeOf(Metric) == 24);
}
