"""How each library makes a step of continuous time: parameters of a NIR neuron to the equations of one step."""
