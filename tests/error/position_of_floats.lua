local qn = require "quern"
local p = qn.tensor("pos", "f32", { "Nq" }) -- error: E-RANK a position tensor holds integers over [Nq] or [B, Nq]
return qn.attention {
  position = p,
}
