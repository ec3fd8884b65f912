-- Packed documents: causal inside each document, by offsets.
-- Krell et al., "Efficient Sequence Packing without Cross-contamination", 2021.
local qn = require "quern"
local cu = qn.tensor("cu", "i32", { "Ndoc+1" }, { sample = "offsets" })

return qn.attention { name = "document", mask = qn.causal & qn.document(cu) }
