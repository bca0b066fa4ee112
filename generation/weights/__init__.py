"""Files of network weights.

catalogue      names, files and licenses of the models
store          where the files are on this machine
verify         headers and shapes
hub            downloads
files          the format in which trained weights are saved
model_weights  opened weights of a model, from which networks are loaded
"""
