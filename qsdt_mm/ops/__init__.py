"""Operations on tensors: spiking, LSQ, compact saving, and which kernels run them."""
