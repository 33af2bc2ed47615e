export const rate = (): number => 1.2;
