local qn = require "quern"
return qn.attention {
  norm = qn.norm { -- error: E-SPEC stat = "mean" is none of max, min, sum, none
    stat = "mean",
    weight = function(s, m) return s - m end,
  },
}
