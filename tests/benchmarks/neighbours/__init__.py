"""Methods of other papers on small digits: few-step draws, frequency averages, CDRL, and undersampled images."""
