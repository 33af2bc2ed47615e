def seperate(langauge):
    return langauge
