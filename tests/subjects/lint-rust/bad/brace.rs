fn main() {
    println!("hello");
