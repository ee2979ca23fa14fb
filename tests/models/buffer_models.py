"""Two networks with a buffer that is not saved: one rebuilds it after reading, the other forgets to."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init


class ForgetfulConfig(PreTrainedConfig):
    model_type = "forgetful_for_tests"


class CarefulConfig(PreTrainedConfig):
    model_type = "careful_for_tests"


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("positions", torch.arange(1.0, 50.0), persistent=False)


class Forgetful(PreTrainedModel):
    config_class = ForgetfulConfig

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.inner = Positions()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass


class Careful(Forgetful):
    config_class = CarefulConfig

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Positions):
            init.copy_(module.positions, torch.arange(1.0, 50.0))


for config, model in ((ForgetfulConfig, Forgetful), (CarefulConfig, Careful)):
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModelForCTC.register(config, model, exist_ok=True)
