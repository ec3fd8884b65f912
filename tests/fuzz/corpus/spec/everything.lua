local qn = require "quern"
local parts = require "x"
local slope = qn.tensor("slope", "f32", { "Hq" })
local T = qn.tensor("T", "f16", { "B", "Hq", "Nq", "Nk" })
local W, n <const> = qn.param("W", "i32", 4), 3
local function keep(b, h, i, j) return (i - j) % n == 0 or j // 2 == i end
return qn.attention {
  name = "all_of_it", position = qn.rows, outputs = { "lse", "max" },
  score = { qn.alibi(slope), qn.softcap(30.0), qn.bias(T), function(s, b, h, i, j)
    if i > j then return parts.twice(s) else return qn.select(i == j, s, -math.huge) end
  end },
  mask = qn.causal & (qn.window(W) | qn.sinks(2)) & ~qn.blocks(5) | keep,
  scale = function(b, h) return 0.5 ^ (h + 1) end,
  norm = qn.norm.softmax { sink = slope },
  heads = { { when = function(h) return h % 2 == 0 end, mask = qn.band(1, 2), norm = qn.norm.relu }, { score = qn.alibi() } },
  out = function(o, b, h, i, d) return o * qn.sigmoid(slope[h]) end,
}
--file
return { twice = function(x) local y = x for k = 1, 2 do y = y + x end return y / 1.5 end }
