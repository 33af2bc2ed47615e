//! Shouts: the input in capitals, with as many marks as the params say.

const std = @import("std");
const sandhog = @import("sandhog.zig");

comptime {
    sandhog.worker(shout);
}

const Params = struct { marks: i64 = 1 };

fn shout(task: *const sandhog.Task) sandhog.Failed![]const sandhog.Artifact {
    const params = try task.readParams(Params);
    if (params.marks < 0 or params.marks > 1000) return sandhog.invalidInput("`marks` must be from 0 to 1000", .{});
    const marks: usize = @intCast(params.marks);
    const input = try task.input();
    sandhog.log(.info, "{d} bytes", .{input.content.length});
    const words = std.mem.trimEnd(u8, input.content.get(), " \r\n\t");
    const text = sandhog.allocator.alloc(u8, words.len + marks + 1) catch @trap();
    _ = std.ascii.upperString(text, words);
    @memset(text[words.len..], '!');
    text[text.len - 1] = '\n';
    return sandhog.one(.{ .name = .of("shouted.txt"), .media_type = .of("text/plain"), .content = .of(text) });
}
