-- exp(-|m_i - m_j| / l_h) s with points of three coordinates.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
local mq = qn.tensor("mq", "f32", { "Nq", 3 })
local mk = qn.tensor("mk", "f32", { "Nk", 3 })
local spread = qn.tensor("spread", "f32", { "Hq" })

return qn.attention {
  name = "euclidean_dist",
  position = qn.rows,
  score = function(s, b, h, i, j)
    local x = mq[i][0] - mk[j][0]
    local y = mq[i][1] - mk[j][1]
    local z = mq[i][2] - mk[j][2]
    return math.exp(-math.sqrt(x * x + y * y + z * z) / (1.0 + math.abs(spread[h]))) * s
  end,
}
