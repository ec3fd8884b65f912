local qn = require "quern"
local x = qn.tensor("x", "f31", { "Hq" }) -- error: E-DTYPE qn.tensor wants an element type, not f31
return qn.attention {}
-- help: one of bool u8 i8 i16 i32 i64 f16 bf16 f32 f64
