MEAN = [0.0] * 34
SCALE = [1.0] * 34
SPEECH = [0.0] * 35
MUSIC = [0.0] * 35
