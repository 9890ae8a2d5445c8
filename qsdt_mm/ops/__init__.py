"""Operations on tensors: spiking, LSQ, compact saving, and the choice of kernels."""
