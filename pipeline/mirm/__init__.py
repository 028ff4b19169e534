"""The MIRM (paper 3.3): a multimodal LLM that turns an item's picture and words into one vector.

Read in this order: `backbone` (a published checkpoint, or `tiny`), `pictures` and `prompt` (an item becomes tokens),
`batch` (examples become tensors), `tasks`, `pairs`, `objectives` and `finetune` (IT, SA, UB, by answers and contrast),
`folder` (what data/mirm holds), `embed`, `once`, `cache`, `shards`, `conditioning` (every item a vector, once).
"""
