;; Two components in one, each with a memory of its own: the engine makes the code between them, which has both memories.
(component
  (component $callee
    (core module $module
      (memory (export "memory") 1)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
      (func (export "f") (param i32 i32) (if (i32.ne (i32.load8_u (local.get 0)) (i32.const 104)) (then unreachable)))
    )
    (core instance $instance (instantiate $module))
    (func (export "f") (param "text" string)
      (canon lift (core func $instance "f") (memory (core memory $instance "memory")) (realloc (core func $instance "realloc"))))
  )
  (component $caller
    (import "f" (func $f (param "text" string)))
    (core module $memory (memory (export "memory") 1) (data (i32.const 0) "hello"))
    (core instance $memory (instantiate $memory))
    (core func $lowered (canon lower (func $f) (memory (core memory $memory "memory"))))
    (core module $module
      (import "" "f" (func $f (param i32 i32)))
      (func (export "run") (result i32) (call $f (i32.const 0) (i32.const 5)) (i32.const 0))
    )
    (core instance $instance (instantiate $module (with "" (instance (export "f" (func $lowered))))))
    (func (export "run") (result (result)) (canon lift (core func $instance "run")))
  )
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (instance $cli (export "run" (func $caller "run")))
  (export "wasi:cli/run@0.2.0" (instance $cli))
)
