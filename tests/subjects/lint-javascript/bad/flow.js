// @flow
let x = ;
