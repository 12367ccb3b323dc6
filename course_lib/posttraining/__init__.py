"""From a model that continues texts to an assistant: instruction tuning, rewards, PPO, DPO (lessons 18–20)."""
