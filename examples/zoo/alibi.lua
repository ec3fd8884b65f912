-- ALiBi: s + slope[h] (j - i), causal.
-- Press, Smith, Lewis, "Train Short, Test Long", 2022.
local qn = require "quern"
local slope = qn.tensor("slope", "f32", { "Hq" })

return qn.attention { name = "alibi", mask = qn.causal, score = qn.alibi(slope) }
