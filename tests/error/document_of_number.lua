local qn = require "quern"
return qn.attention {
  mask = qn.document(3), -- error: E-SPEC qn.document wants the tensor of offsets
}
-- help: qn.document(qn.tensor("cu", "i32", { "Ndoc+1" }))
