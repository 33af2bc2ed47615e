import { rate } from "@parts/rate";

export interface Money {
  cents: number;
}
export const price = (cents: number): Money => ({ cents: Math.round(cents * rate()) });
