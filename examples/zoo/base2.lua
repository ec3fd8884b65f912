-- A norm of one's own: softmax to base 2 with a learned sink.
-- Softmax: Bridle, 1990; the sink as in Xiao et al., 2024.
local qn = require "quern"
local sink = qn.tensor("sink", "f32", { "Hq" })

return qn.attention {
  name = "base2",
  mask = qn.causal,
  norm = qn.norm {
    stat = "max",
    weight = function(s, m) return qn.exp2(s - m) end,
    rescale = function(a, b) return qn.exp2(a - b) end,
    finish = function(o, l, m, b, h)
      local t = math.max(m, sink[h])
      local f = qn.exp2(m - t)
      return o * f / (l * f + qn.exp2(sink[h] - t))
    end,
  },
}
