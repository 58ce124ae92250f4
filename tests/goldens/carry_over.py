"""Other implementations' weights into convzoo's EfficientNet, by name; every variable is used exactly once."""

import re

import numpy as np

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def assign(model, weights):
    """Gives `weights`, {"layer/variable": array in convzoo's order of axes}, to the variables of `model`."""
    variables = {variable.path: variable for variable in model.weights}
    assert sorted(variables) == sorted(weights)
    for path, variable in variables.items():
        variable.assign(np.reshape(weights[path], variable.shape))


def from_timm(model, weights):
    """timm's `tf_efficientnet_*` state dict as {"layer/variable": array} for `model`."""
    carried, block_index, index = {}, {}, -1
    for name, value in weights.items():
        match = re.match(r"blocks\.(\d+\.\d+)\.(.*)", name)
        if match:
            if match[1] not in block_index:
                index += 1
                block_index[match[1]] = index
            prefix, rest = f"block{block_index[match[1]]}", match[2]
            first = match[1] == "0.0"
        else:
            prefix, rest, first = "", name, False
        layer, variable = rest.rsplit(".", 1)
        ours = _timm_layer(prefix, layer, first)
        if ours.endswith("_bn"):
            carried[f"{ours}/{_NORM[variable]}"] = value
        elif variable == "bias":
            carried[f"{ours}/bias"] = value
        elif ours.endswith(("_routing", "_dense")):
            carried[f"{ours}/kernel"] = value.T
        else:
            carried[_kernel_path(model, ours)] = _timm_kernel(model.get_layer(ours), value)
    return carried


def _timm_layer(prefix, layer, first):
    if not prefix:
        return {"conv_stem": "stem_conv", "bn1": "stem_bn", "conv_head": "head_conv", "bn2": "head_bn"}.get(
            layer, "head_dense"
        )
    # The first block has no expansion, so its batch normalisations are numbered one lower.
    norms = ("depthwise", "project") if first else ("expand", "depthwise", "project")
    names = {
        "conv_pw": "project_conv" if first else "expand_conv",
        "conv_dw": "depthwise_conv",
        "conv_pwl": "project_conv",
        "se.conv_reduce": "se_reduce",
        "se.conv_expand": "se_expand",
        "routing_fn": "routing",
        **{f"bn{position + 1}": f"{norm}_bn" for position, norm in enumerate(norms)},
    }
    return f"{prefix}_{names[layer]}"


def _kernel_path(model, layer):
    return next(weight.path for weight in model.get_layer(layer).weights if weight.path.endswith("kernel"))


def _timm_kernel(layer, value):
    """[out, in, kh, kw], or rows of it one an expert, to [kh, kw, in, out]; depthwise [channels, 1, kh, kw] alike."""
    shape = next(weight.shape for weight in layer.weights if weight.path.endswith("kernel"))
    kh, kw, inputs, outputs = shape[-4:]
    depthwise = "depthwise" in layer.name
    value = value.reshape(-1, *((inputs, 1) if depthwise else (outputs, inputs)), kh, kw)
    return np.transpose(value, (0, 3, 4, 1, 2) if depthwise else (0, 3, 4, 2, 1))


def from_tf1(model, weights):
    """The TensorFlow 1 EfficientNet code's variables as {"layer/variable": array} for `model`."""
    carried, seen = {}, {}
    for name, value in weights.items():
        scope, layer, variable = re.sub(r"^[^/]*/(model/)?", "", name).rsplit("/", 2)
        block = re.match(r"blocks_(\d+)(/se)?", scope)
        prefix = f"block{block[1]}_" if block else f"{scope}_"
        # TensorFlow numbers the layers of a scope in the order of their making.
        kind = re.sub(r"(_\d+)$", "", layer)
        made = seen.setdefault((scope, kind), [])
        if layer not in made:
            made.append(layer)
        if scope.endswith("/se"):
            ours = prefix + ("se_reduce", "se_expand")[made.index(layer)]
        elif not block:
            ours = prefix + {"conv2d": "conv", "tpu_batch_normalization": "bn", "dense": "dense"}[kind]
        else:
            parts = ("depthwise", "project") if block[1] == "0" else ("expand", "depthwise", "project")
            if kind == "dense":
                ours = prefix + "routing"
            elif kind == "tpu_batch_normalization":
                ours = prefix + parts[made.index(layer)] + "_bn"
            elif kind.startswith("depthwise"):
                ours = prefix + "depthwise_conv"
            else:
                ours = prefix + [part for part in parts if part != "depthwise"][made.index(layer)] + "_conv"
        carried[_kernel_path(model, ours) if variable.endswith("kernel") else f"{ours}/{variable}"] = value
    return carried
