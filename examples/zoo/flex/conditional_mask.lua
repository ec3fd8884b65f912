-- A bias where causal and near, another elsewhere.
-- After the program of that name in the tests of FlexAttention and its peers (mathematics only).
local qn = require "quern"
return qn.attention {
  name = "conditional_mask",
  position = qn.rows,
  score = function(s, b, h, i, j)
    if i >= j and i - j <= 32 then
      return s + 0.5
    elseif i >= j then
      return s - 0.25 * (i - j)
    end
    return s * 0.5
  end,
}
