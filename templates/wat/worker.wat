;; Shouts: every input in capitals. Values lie in memory as the component model's canonical ABI has them.
(module
  (import "sandhog:plugin/host@0.1.0" "log" (func $log (param $level i32) (param $at i32) (param $length i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) "shouting")
  ;; Where free memory begins. Nothing is freed: an instance lives for one call.
  (global $free (mut i32) (i32.const 1024))

  ;; The host asks for memory for what it hands over.
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $free) (i32.shl (memory.size) (i32.const 16))))
      (br_if $enough
        (i32.ne
          (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))
          (i32.const -1)))
      unreachable)
    (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
    (local.get $at))

  ;; run: func(task: task) -> result<list<artifact>, failure>. The inputs are at byte 40 of a task: address and count. An artifact
  ;; has 24 bytes: address and length of its name, its media type and its content.
  (func (export "sandhog_worker_run") (param $task i32) (result i32)
    (local $artifact i32) (local $end i32) (local $at i32) (local $behind i32) (local $letter i32)
    (call $log (i32.const 2) (i32.const 16) (i32.const 8))
    (local.set $artifact (i32.load offset=40 (local.get $task)))
    (local.set $end (i32.add (local.get $artifact) (i32.mul (i32.load offset=44 (local.get $task)) (i32.const 24))))
    (block $done
      (loop $artifacts
        (br_if $done (i32.ge_u (local.get $artifact) (local.get $end)))
        (local.set $at (i32.load offset=16 (local.get $artifact)))
        (local.set $behind (i32.add (local.get $at) (i32.load offset=20 (local.get $artifact))))
        (block $next
          (loop $letters
            (br_if $next (i32.ge_u (local.get $at) (local.get $behind)))
            (local.set $letter (i32.load8_u (local.get $at)))
            (if (i32.lt_u (i32.sub (local.get $letter) (i32.const 97)) (i32.const 26))
              (then (i32.store8 (local.get $at) (i32.sub (local.get $letter) (i32.const 32)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $letters)))
        (local.set $artifact (i32.add (local.get $artifact) (i32.const 24)))
        (br $artifacts)))
    ;; The answer, at byte 0: no failure, and the inputs as they are now.
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.load offset=40 (local.get $task)))
    (i32.store (i32.const 8) (i32.load offset=44 (local.get $task)))
    (i32.const 0))
)
