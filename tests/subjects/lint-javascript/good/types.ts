interface Named { readonly name: string }
export const greet = <T extends Named>(who: T): string => `Hello, ${who.name}`;
