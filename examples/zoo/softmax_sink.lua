-- A learned sink in the normaliser: one more logit a head without a value.
-- Xiao et al., 2024 ("SoftMax-off-by-one" with a learned offset); OpenAI, gpt-oss, 2025.
local qn = require "quern"
local sink = qn.tensor("sink", "f32", { "Hq" })

return qn.attention {
  name = "softmax_sink",
  mask = qn.causal,
  norm = qn.norm.softmax { sink = sink },
  outputs = { "lse" },
}
