"""What a step spends its time in, written for one kind of device, each with a way that torch has everywhere.

    products    activations times weights, alone or around GeGLU       products.cpp, gated.cpp; geglu_bf16.cpp
    norm        layer norm, with the sum before it                     norm.cpp
    segments    rotary attention inside segments                       segments.cpp; segments_bf16.cpp
    softmax     loss, hit and gradient of a row of logits              softmax.cpp; on GPUs triton_loss.py

`native` compiles the C++ when it is first wanted. There, vectors.h is below all. For float32, tiles.h (the register
tile) and panels.h (blocks of products) stand on it; for bfloat16 bf16.h (conversions, and products with float32 sums).
geglu.h and scratch.h serve both.
"""
