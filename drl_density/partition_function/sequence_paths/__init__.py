"""Path weights along the noise levels with resampling: log Z of sequences of many coordinates."""
