;; Rejects files without content. Values lie in memory as the component model's canonical ABI has them.
(module
  (memory (export "memory") 1)
  (data (i32.const 64) "empty")
  (data (i32.const 72) "there is nothing in it")
  (data (i32.const 96) "looked at the sizes")
  ;; Where free memory begins. Nothing is freed: an instance lives for one call.
  (global $free (mut i32) (i32.const 1024))

  (func $allocate (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
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

  ;; check: func(subject: subject) -> result<verdict, failure>. A subject begins with its files: address and count. A file has 24
  ;; bytes: address and length of its path, and at byte 8 its size. A finding has 100.
  (func (export "sandhog_gate_check") (param $subject i32) (result i32)
    (local $file i32) (local $end i32) (local $finding i32) (local $findings i32)
    (local.set $file (i32.load (local.get $subject)))
    (local.set $end (i32.add (local.get $file) (i32.mul (i32.load offset=4 (local.get $subject)) (i32.const 24))))
    (block $done
      (loop $files
        (br_if $done (i32.ge_u (local.get $file) (local.get $end)))
        (if (i64.eqz (i64.load offset=8 (local.get $file)))
          (then
            ;; One behind the other: nothing else is allocated meanwhile.
            (local.set $finding (call $allocate (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 100)))
            (if (i32.eqz (local.get $findings)) (then (local.set $findings (local.get $finding))))
            (i32.store (local.get $finding) (i32.const 64)) ;; rule
            (i32.store offset=4 (local.get $finding) (i32.const 5))
            (i32.store8 offset=8 (local.get $finding) (i32.const 2)) ;; medium
            (i32.store offset=12 (local.get $finding) (i32.const 72)) ;; message
            (i32.store offset=16 (local.get $finding) (i32.const 22))
            (i32.store8 offset=20 (local.get $finding) (i32.const 1)) ;; there is a location: the path, and no span
            (i32.store offset=24 (local.get $finding) (i32.load (local.get $file)))
            (i32.store offset=28 (local.get $finding) (i32.load offset=4 (local.get $file)))
            (i32.store8 (i32.const 4) (i32.const 1)) ;; it fails
            (i32.store (i32.const 12) (i32.add (i32.load (i32.const 12)) (i32.const 1)))))
        (local.set $file (i32.add (local.get $file) (i32.const 24)))
        (br $files)))
    ;; The answer, at byte 0: no failure; then the decision, the findings, no metrics, the summary.
    (i32.store (i32.const 8) (local.get $findings))
    (i32.store (i32.const 16) (i32.const 8))
    (i32.store (i32.const 24) (i32.const 96))
    (i32.store (i32.const 28) (i32.const 19))
    (i32.const 0))
)
