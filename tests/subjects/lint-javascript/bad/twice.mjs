const answer = 42;
let answer = 43;
