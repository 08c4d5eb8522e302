"""Two apples and three oranges with tax, forwards and backwards through a graph of layers (chapter 5.4)."""

from shared import options

from xpdl import AddLayer, MulLayer


def main(argv: list[str] | None = None) -> tuple[float, dict[str, float]]:
    options(__doc__, argv)
    apple, apples, orange, oranges, tax = 100, 2, 150, 3, 1.1
    mul_apple, mul_orange, add, mul_tax = MulLayer(), MulLayer(), AddLayer(), MulLayer()

    apple_price = mul_apple.forward(apple, apples)
    orange_price = mul_orange.forward(orange, oranges)
    price = mul_tax.forward(add.forward(apple_price, orange_price), tax)
    print(f"price {price:.0f}")

    d_all, d_tax = mul_tax.backward(1)
    d_apple_price, d_orange_price = add.backward(d_all)
    d_apple, d_apples = mul_apple.backward(d_apple_price)
    d_orange, d_oranges = mul_orange.backward(d_orange_price)
    found = {"apple": d_apple, "apples": d_apples, "orange": d_orange, "oranges": d_oranges, "tax": d_tax}
    for name, slope in found.items():
        print(f"one more of {name:8} costs {slope:6.1f} more")
    return price, found


if __name__ == "__main__":
    main()
