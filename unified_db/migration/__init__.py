"""What is used once per move: plan, copies, proof, rehearsal, cut-over and the way back."""
