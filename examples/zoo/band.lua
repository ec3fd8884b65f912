-- A band around the diagonal: -l <= j - i <= r.
-- Beltagy, Peters, Cohan, "Longformer", 2020, section 3.1.
local qn = require "quern"
local l, r = qn.param("left", "i32", 9), qn.param("right", "i32", 5)

return qn.attention { name = "band", mask = qn.band(l, r), position = qn.rows }
